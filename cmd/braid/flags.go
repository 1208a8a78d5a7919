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

// clusterNames completes names of clusters; silently nothing when the process is away.
func (e *env) clusterNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := e.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := c.Clusters(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, cl := range list {
		names = append(names, cl.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// topicNames completes names of topics.
func (e *env) topicNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := e.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := c.Topics(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (e *env) completeClusters(cmd *cobra.Command, flag string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, s string) ([]string, cobra.ShellCompDirective) {
		return e.clusterNames(cmd, nil, s)
	}); err != nil {
		panic(err) // the flag does not exist: a slip in this package
	}
}

// opFlags adds the flags that all operations share.
func (e *env) opFlags(cmd *cobra.Command, dryRun, detach *bool) {
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "show the plan and what it would cost; change nothing")
	cmd.Flags().BoolVar(detach, "detach", false, "start it and return at once (braid op watch ID follows it)")
}
