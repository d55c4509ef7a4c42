"""What the flow between poses and images is made of: pairs, pose codes, network, steps, training."""
