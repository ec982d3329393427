"""From an image or a set of images to a calibrated answer."""
