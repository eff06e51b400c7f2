"""Fine-tuning with fake quantisation: what each choice of the numerics does to training."""
