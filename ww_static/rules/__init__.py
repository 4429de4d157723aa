"""The rules of an audit: what may be wrong with a model, each texts, settings and a pure function of its rows."""
