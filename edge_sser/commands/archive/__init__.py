"""`edge-sser analyze FOLDER --out RESULTS`: archives of recordings into Parquet, on one machine or on many."""
