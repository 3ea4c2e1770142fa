"""What the methods train with; imported once a training starts, since all of it needs Keras."""
