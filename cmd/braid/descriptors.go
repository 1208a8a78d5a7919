package main

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

const (
	otherDescriptors  = 512     // the catalog, connections to brokers and to other processes, HTTP
	engineDescriptors = 32      // of a local cluster beside its segments: its log, directories
	openSegments      = 512     // of a local cluster
	leastSegments     = 16      // the same where there is no room for more
	mostConnections   = 100_000 // of a gateway, where no setting says another number
)

// descriptors is how the file descriptors of a process are shared out. A process that has none left neither
// goes on in another file of a log nor talks to its catalog, whoever it is that took them.
type descriptors struct {
	connections int // of each gateway
	segments    int // open segment files of each local cluster
}

// shareDescriptors shares out limit of them: connections get what the rest leaves, and half at least.
func shareDescriptors(limit uint64, gateways, engines int) descriptors {
	all := int(min(limit, 1<<30))
	gateways = max(gateways, 1)
	keep := otherDescriptors + engines*(openSegments+engineDescriptors)
	if keep <= all/2 {
		return descriptors{connections: (all - keep) / gateways, segments: openSegments}
	}
	segments := all/4/max(engines, 1) - engineDescriptors
	return descriptors{connections: max(all/2/gateways, 1), segments: min(max(segments, leastSegments), openSegments)}
}

// limitDescriptors brings the settings within what the system lets the process open.
func (p *process) limitDescriptors() error {
	var r unix.Rlimit
	// The runtime has raised the soft limit to the hard one.
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	p.share = shareDescriptors(r.Cur, p.cfg.Gateways, len(p.cfg.LocalClusters))
	level, most := slog.LevelWarn, p.settings.Gateway.MaxConnections
	if most == 0 {
		level, most = slog.LevelDebug, mostConnections
	}
	if most > p.share.connections {
		p.logger.Log(context.Background(), level, "gateways take fewer connections than max.connections says, since the process may not open more files",
			"max.connections", most, "connections", p.share.connections, "open_files", r.Cur)
		p.settings.Gateway.MaxConnections = p.share.connections
	}
	return nil
}
