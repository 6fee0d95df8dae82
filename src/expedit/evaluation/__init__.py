"""Models over data sets, image by image, on one process or many, and what their answers are worth."""
