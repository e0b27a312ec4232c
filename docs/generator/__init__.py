"""Writes the pages and parts of pages that follow from the roles' data, and the website that is made of all pages."""
