"""Dense linear algebra on flat vectors: symmetric products and damped solves."""
