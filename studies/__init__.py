"""What the models trained by `training` show, one module a study: each measures, keeps its figures, and writes its page in docs/studies."""
