"""What nnU-Net finds in ``nnUNet_extTrainer``: it imports every module of that folder."""
