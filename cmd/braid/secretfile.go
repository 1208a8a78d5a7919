package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// readSecret reads a secret of one line, and of at most so many bytes, from a file
// that nobody else may read; a newline at its end is not part of it.
func readSecret(kind, path string, most int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s file: %w", kind, err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%s file: %w", kind, err)
	}
	if err := onlyOwner(kind, path, info); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+3))
	if err != nil {
		return "", fmt.Errorf("%s file: %w", kind, err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("%s file %s is empty", kind, path)
	case len(b) > most:
		return "", fmt.Errorf("%s file %s: a %s has at most %d bytes", kind, path, kind, most)
	case bytes.ContainsAny(b, "\n\r\x00"):
		return "", fmt.Errorf("%s file %s holds more than one line", kind, path)
	}
	return string(b), nil
}

// ownersAlone refuses a file that others may read.
func ownersAlone(kind, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s file: %w", kind, err)
	}
	return onlyOwner(kind, path, info)
}

func onlyOwner(kind, path string, info os.FileInfo) error {
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s file %s has mode %04o: others may read it (chmod 600 %s)", kind, path, info.Mode().Perm(), path)
	}
	return nil
}
