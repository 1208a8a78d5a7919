package catalog

import (
	"context"
	"fmt"
	"strings"
)

// listOf reads and decodes everything below prefix; set is told each one's revision.
func listOf[T any](ctx context.Context, c *Catalog, what, prefix string, set func(*T, int64)) ([]T, error) {
	out, _, err := listAt(ctx, c, what, prefix, set)
	return out, err
}

// listAt is listOf with the revision at which the records were so.
func listAt[T any](ctx context.Context, c *Catalog, what, prefix string, set func(*T, int64)) (_ []T, revision int64, _ error) {
	items, revision, err := c.list(ctx, what, prefix)
	if err != nil {
		return nil, 0, err
	}
	out := make([]T, len(items))
	for i, it := range items {
		if err := decode(it.value, &out[i]); err != nil {
			return nil, 0, fmt.Errorf("%s: %s: %w", what, strings.TrimPrefix(it.key, dataRoot), err)
		}
		if set != nil {
			set(&out[i], it.revision)
		}
	}
	return out, revision, nil
}
