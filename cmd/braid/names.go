package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/span"
)

// noArguments is the check of a command that takes flags alone.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s wants no arguments: unexpected %q", cmd.CommandPath(), strings.Join(args, " "))
	}
	return nil
}

// names checks the count of arguments and says which are wanted.
func names(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < low:
			return usagef("%s wants %s", cmd.CommandPath(), what)
		case high >= 0 && len(args) > high:
			return usagef("%s wants %s only: unexpected %q", cmd.CommandPath(), what, strings.Join(args[high:], " "))
		}
		return nil
	}
}

// topicNames is names of topics, at least one: what no topic can be called is a slip on the command line, as
// against a topic that does not exist.
func topicNames(high int, what string) cobra.PositionalArgs {
	count := names(1, high, what)
	return func(cmd *cobra.Command, args []string) error {
		if err := count(cmd, args); err != nil {
			return err
		}
		for _, name := range args {
			if err := checkTopicName(name); err != nil {
				return err
			}
		}
		return nil
	}
}

func checkTopicName(name string) error {
	err := gateway.CheckTopicName(name)
	if err == nil {
		return nil
	}
	var why *span.RejectedError
	if errors.As(err, &why) {
		return usagef("%q is no name for a topic: %s", name, why.Detail)
	}
	return usagef("%q is no name for a topic: %s", name, err)
}

// aCluster is names of one cluster that is there, or is to be.
func aCluster(what string) cobra.PositionalArgs {
	count := names(1, 1, what)
	return func(cmd *cobra.Command, args []string) error {
		if err := count(cmd, args); err != nil {
			return err
		}
		return checkClusterName(args[0])
	}
}

// checkClusterName refuses what neither a cluster that was added nor a local one can be called.
func checkClusterName(name string) error {
	if controller.IsClusterName(name) || clusterName(name) {
		return nil
	}
	return usagef("%q is no name for a cluster: %s", name, controller.ClusterNames)
}

// checkClusterFlag is checkClusterName of a flag that may be left out.
func checkClusterFlag(flag, name string) error {
	if name == "" || controller.IsClusterName(name) || clusterName(name) {
		return nil
	}
	return aboutf(flag, ": %q is no name for a cluster: %s", name, controller.ClusterNames)
}
