"""Files of rows, one for each result, in order: JSON lines, CSV, Parquet. They appear whole or not at all."""
