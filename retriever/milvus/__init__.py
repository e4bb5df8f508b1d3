"""The same index on a Milvus cluster."""
