//go:build faults

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// faultHook stops the first who comes to a fault point for which the directory of the
// environment has a file, until that file is gone. Another file, ".reached" after the
// point's name, holds the pid of who stands there; while it is there others pass by.
func faultHook() func(point string) error {
	dir := os.Getenv("BRAID_FAULTS_DIR")
	if dir == "" {
		return nil
	}
	return func(point string) error {
		wanted := filepath.Join(dir, point)
		if _, err := os.Stat(wanted); err != nil {
			return nil
		}
		f, err := os.OpenFile(wanted+".reached", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, os.Getpid())
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		for {
			if _, err := os.Stat(wanted); err != nil {
				return nil
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// controlledElsewhere: further processes have the controllers, so that the faults of this
// one are not theirs.
func controlledElsewhere() bool { return os.Getenv("BRAID_FAULTS_CONTROLLED_ELSEWHERE") != "" }

// brokerDial leads this process to other addresses than the brokers tell, as the
// environment says: ADDRESS=INSTEAD,…. So one process can be cut off from a cluster that
// the others reach.
func brokerDial() func(ctx context.Context, addr string) (net.Conn, error) {
	instead := map[string]string{}
	for route := range strings.SplitSeq(os.Getenv("BRAID_FAULTS_ROUTES"), ",") {
		if from, to, ok := strings.Cut(route, "="); ok {
			instead[from] = to
		}
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		if to, ok := instead[addr]; ok {
			addr = to
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
}
