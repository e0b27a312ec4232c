#!/usr/bin/env node
// Directus' own command line without its update check, which would call a registry at every start.
import('@directus/api/cli/run.js');
