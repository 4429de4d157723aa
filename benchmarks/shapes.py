"""Shapes of large language models: which matrices there are, how many of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """Matrices of one shape.

    Attributes:
        count: how many.
        n, m: longer and shorter side.
    """

    count: int
    n: int
    m: int

    @property
    def numbers(self) -> int:
        """Elements of all of them."""
        return self.count * self.n * self.m


def transformer(blocks: int, width: int, key_width: int, inner: int, words: int, embeddings: int) -> tuple[Shape, ...]:
    """The matrices of a decoder.

    Args:
        blocks: how many there are.
        width: of the hidden state.
        key_width: of all keys of a block, less than `width` where heads share them.
        inner: width inside the gated feed-forward layer.
        words: of the vocabulary.
        embeddings: 1 when input and output share one, else 2.
    """
    keys = (Shape(2 * blocks, width, key_width),) if key_width < width else ()
    squares = Shape((2 if keys else 4) * blocks, width, width)
    return (squares, *keys, Shape(3 * blocks, inner, width), Shape(embeddings, words, width))


MODELS: dict[str, tuple[Shape, ...]] = {
    "1B": transformer(16, 2048, 512, 8192, 128_256, 1),
    "7B": transformer(32, 4096, 4096, 11_008, 32_000, 2),
    "70B": transformer(80, 8192, 1024, 28_672, 128_256, 2),
}


def words(shapes: tuple[Shape, ...]) -> str:
    """The shapes in one line."""
    return ", ".join(f"{one.count} of {one.n} x {one.m}" for one in shapes)
