"""What the datasets screen computes without a terminal: places of tiles, the cursor, crop boxes."""
