"""Does a model give back its training images? Generated images, each compared with the training image nearest to it."""
