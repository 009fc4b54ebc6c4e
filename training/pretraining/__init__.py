"""Pretraining: a student learns a teacher's scores and embeddings of unlabelled recordings."""
