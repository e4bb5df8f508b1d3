"""What an index is on the disk: manifest, records, filters, lock."""
