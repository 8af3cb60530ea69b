"""What runs inside Modal's containers: a supervisor round the trainer. Standard library only, and ours."""
