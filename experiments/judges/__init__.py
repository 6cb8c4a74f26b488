"""Models that judge a VAE: a classifier, a trigram model, probes, measured strokes."""
