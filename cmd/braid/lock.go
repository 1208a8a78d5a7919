package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockName is the file whose lock tells who has the data directory.
const lockName = "LOCK"

// lockDir takes the data directory for this process, or names the one that has it.
func lockDir(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory %s is not writable: %w (choose another with --data-dir)", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, rerr := os.ReadFile(path)
		who := "another process"
		if pid := strings.TrimSpace(string(holder)); rerr == nil && pid != "" {
			who = "process " + pid
		}
		return nil, errors.Join(fmt.Errorf("data directory %s is in use by %s: stop it, or choose another with --data-dir", dir, who), f.Close())
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("data directory %s: %w", dir, err), f.Close())
		}
	}
	return f.Close, nil
}
