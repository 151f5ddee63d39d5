"""What a detector learns from: COCO files, checked before it reads them."""
