"""Teachers of the students: large speech encoders trained elsewhere, or ensembles of networks trained here."""
