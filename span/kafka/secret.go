package kafka

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// readSecret resolves a reference to a secret: file:PATH, readable by its owner
// alone, or env:NAME. A secret itself is refused, since options are stored in
// the catalog and shown. No error holds the value.
func readSecret(key, ref string) (string, error) {
	kind, name, _ := strings.Cut(ref, ":")
	switch {
	case kind == "env" && name != "":
		v, ok := os.LookupEnv(name)
		if !ok {
			return "", fmt.Errorf("%s: environment variable %s is not set", key, name)
		}
		return v, nil
	case kind == "file" && name != "":
		b, err := readPrivate(name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", key, err)
		}
		return string(bytes.TrimRight(b, "\r\n")), nil
	}
	return "", notReference(key)
}

// isReference tells a reference from what could be a secret.
func isReference(v string) bool {
	kind, name, _ := strings.Cut(v, ":")
	return (kind == "env" || kind == "file") && name != ""
}

func notReference(key string) error {
	return fmt.Errorf("%s: must be a reference, file:PATH or env:NAME, not the secret itself", key)
}

// maxSecret bounds what is read of a file that is said to hold a secret.
const maxSecret = 1 << 20

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %#o: only its owner may read it (chmod 600)", path, st.Mode().Perm())
	}
	if st.Size() > maxSecret {
		return nil, fmt.Errorf("%s has %d bytes: too large for a secret", path, st.Size())
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if int64(n) != st.Size() {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}
