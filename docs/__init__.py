"""The documentation: pages, the site's configuration, and the makers of the reference pages."""
