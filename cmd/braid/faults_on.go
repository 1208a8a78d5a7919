//go:build faults

package main

import (
	"os"
	"path/filepath"
	"time"
)

// faultHook stops whoever comes to a fault point for which the directory of the
// environment has a file, until that file is gone. Another file, ".reached" after the
// point's name, says that it stands there.
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
		if err := os.WriteFile(wanted+".reached", nil, 0o600); err != nil {
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
