package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// dataFormat is the version of the data directory's layout.
const (
	dataFormatName = "braid-data "
	dataFormat     = dataFormatName + "1\n"
)

// openDataDir makes or checks the data directory; a process that keeps no data
// has none and takes a fresh id.
func (p *process) openDataDir() error {
	dir := p.cfg.DataDir
	if dir == "" {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		p.id = hex.EncodeToString(b[:])
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w (choose another with --data-dir)", err)
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	p.onEnd(func(context.Context) error { return unlock() })
	format := filepath.Join(dir, "FORMAT")
	switch have, err := os.ReadFile(format); {
	case errors.Is(err, os.ErrNotExist):
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		for _, f := range entries {
			if f.Name() != lockName {
				return fmt.Errorf("data directory %s holds other files (%s) and no FORMAT of braid: choose an empty one with --data-dir", dir, f.Name())
			}
		}
		if err := os.WriteFile(format, []byte(dataFormat), 0o600); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	case err != nil:
		return fmt.Errorf("data directory: %w", err)
	case !strings.HasPrefix(string(have), dataFormatName):
		return fmt.Errorf("data directory %s: file FORMAT is damaged or not Braid's: it begins with %q where %q was expected; if the directory is Braid's, write that line to it, else choose another with --data-dir",
			dir, string(have[:min(len(have), 32)]), strings.TrimSpace(dataFormat))
	case string(have) != dataFormat:
		return fmt.Errorf("data directory %s is of format %q, this release knows %q: use the release that wrote it or a newer one",
			dir, strings.TrimSpace(string(have)), strings.TrimSpace(dataFormat))
	}
	return p.readID(filepath.Join(dir, "process-id"))
}

// readID keeps the process's id over restarts: local clusters belong to it.
func (p *process) readID(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return err
		}
		p.id = hex.EncodeToString(id[:])
		return os.WriteFile(path, []byte(p.id+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("process id: %w", err)
	}
	p.id = strings.TrimSpace(string(b))
	if len(p.id) != 16 {
		return fmt.Errorf("process id in %s is damaged: 16 hex digits were expected", path)
	}
	return nil
}
