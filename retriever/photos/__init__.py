"""Which garments a folder of photos holds, and reading many photos."""
