package usage

import "github.com/braidstream/braid/catalog"

// Counts are what a tenant used; see [catalog.Usage] for the units.
type Counts = catalog.Usage
