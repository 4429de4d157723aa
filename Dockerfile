# An image that audits models: not root, nothing to write to, no network. docs/ci.md says how to run it.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY . /source
RUN ["sh", "/source/ci/install.sh", "/opt/ww-static", "/source"]

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/ww-static /opt/ww-static
# Sockets of workers lie in memory, so that the root file system may be read-only without a volume.
ENV PYTHONPATH=/opt/ww-static PYTHONDONTWRITEBYTECODE=1 TMPDIR=/dev/shm
USER 65532:65532
# The folder is not that of the models: neither a module nor a policy that lies there is obeyed.
WORKDIR /
ENTRYPOINT ["python", "-P", "-m", "ww_static"]
CMD ["--help"]
