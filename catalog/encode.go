package catalog

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
)

const (
	// maxValue keeps a value with its key below etcd's default request limit of 1.5 MiB.
	maxValue = 1400 << 10
	// maxDecoded bounds what a compressed value may unfold to.
	maxDecoded = 64 << 20
	// compressFrom: a page of 32 chains with 256 spans each is 3 MiB of very
	// repetitive JSON; small values stay readable to etcdctl.
	compressFrom = 16 << 10
)

// encode gives a value as JSON, gzipped when large.
func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode %T: %w", v, err)
	}
	if len(b) >= compressFrom {
		var buf bytes.Buffer
		w, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
		if err != nil {
			return "", fmt.Errorf("encode %T: %w", v, err)
		}
		if _, err := w.Write(b); err != nil {
			return "", fmt.Errorf("encode %T: %w", v, err)
		}
		if err := w.Close(); err != nil {
			return "", fmt.Errorf("encode %T: %w", v, err)
		}
		if len(b) > maxDecoded {
			return "", fmt.Errorf("encode %T of %d bytes: %w", v, len(b), ErrTooLarge)
		}
		b = buf.Bytes()
	}
	if len(b) > maxValue {
		return "", fmt.Errorf("encode %T of %d bytes: %w", v, len(b), ErrTooLarge)
	}
	return string(b), nil
}

// decode reads a value; fields that it does not know are ignored, since a newer
// release may have written them.
func decode(b []byte, v any) error {
	if len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b {
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("decode %T: %w: %w", v, ErrCorrupt, err)
		}
		b, err = io.ReadAll(io.LimitReader(r, maxDecoded+1))
		if err != nil {
			return fmt.Errorf("decode %T: %w: %w", v, ErrCorrupt, err)
		}
		if len(b) > maxDecoded {
			return fmt.Errorf("decode %T: %w: %w", v, ErrCorrupt, ErrTooLarge)
		}
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %T: %w: %w", v, ErrCorrupt, err)
	}
	return nil
}
