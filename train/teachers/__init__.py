"""What the students are taught by: large nets that were trained elsewhere, or ensembles of nets trained here."""
