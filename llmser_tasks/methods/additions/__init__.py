"""What may be added to a model's scores, one file each (`methods.adding`)."""
