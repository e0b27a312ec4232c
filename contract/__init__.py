"""Compare an OpenMates source tree with what this project gives it: what would break, what is new, where it is set.

Run it before `openmates_version` changes: `make contract OPENMATES=<checkout, bare repository or archive>`.
Nothing is fetched and nothing of OpenMates is executed: its files are read as text, its Python through `ast`.

One module per concern (environment, vault, routes, queues, volumes, images, directus) reads both sides and yields
findings; `source` opens OpenMates' tree, `upstream` and `project` hold the two sides; `accepted` and `report` follow.
"""
