//go:build !faults

package main

import (
	"context"
	"net"
)

// faultHook stops the controller at its fault points: only in the tests' build.
func faultHook() func(point string) error { return nil }

// controlledElsewhere: a process that is to have a controller has one, but in the tests' build.
func controlledElsewhere() bool { return false }

// brokerDial is how brokers are connected to: by ways of the tests only in their build.
func brokerDial() func(ctx context.Context, addr string) (net.Conn, error) { return nil }
