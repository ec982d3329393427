"""Studies of the models that `training` trains. Each module measures, stores its figures, and writes its page in docs/studies."""
