package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// keyValues parses repeated KEY=VALUE flags.
func keyValues(flag string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(list))
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		k = strings.TrimSpace(k)
		if !ok || k == "" {
			return nil, usagef("%s wants KEY=VALUE, not %q", flag, kv)
		}
		if _, twice := m[k]; twice {
			return nil, usagef("%s names %s twice", flag, k)
		}
		m[k] = v
	}
	return m, nil
}

// checkKeys refuses a key that is none of the known ones.
func checkKeys[V any](flag string, m map[string]V, known []string) error {
	for _, k := range sorted(m) {
		if !slices.Contains(known, k) {
			return usagef("%s: unknown config %q%s", flag, k, didYouMean(k, known))
		}
	}
	return nil
}

// sorted returns the keys of m in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// opFlags adds the flags that all operations share.
func (e *env) opFlags(cmd *cobra.Command, dryRun, detach *bool) {
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "show the plan and what it would cost; change nothing")
	cmd.Flags().BoolVar(detach, "detach", false, "start it and return at once (braid op watch ID follows it)")
}
