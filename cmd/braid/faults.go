//go:build !faults

package main

// faultHook stops the controller at its fault points: only in the tests' build.
func faultHook() func(point string) error { return nil }
