"""Reference denoisers: small models, trained here on other images of a kind, that serve as the base of a model without one."""
