"""The rules of an audit: what may be wrong with a model, each a pure function of its rows."""
