"""The tuning store: configurations of kernels as data, each with the evidence it rests on."""
