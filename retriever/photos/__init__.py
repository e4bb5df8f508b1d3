"""Reading catalogues: which garments a folder of photos holds, and the photos themselves."""
