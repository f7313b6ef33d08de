"""Results for other tools, and a harness for them: `parquet` (curves), `benchopt` (a benchmark folder), `steps`."""
