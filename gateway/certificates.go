package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"
)

// Certificates are the TLS configuration of another server of the process, kept
// as its files have it, like that of the listeners.
type Certificates struct{ of certificates }

// OpenCertificates reads the files.
func OpenCertificates(files TLSFiles) (*Certificates, error) {
	c := &Certificates{of: certificates{files: files}}
	_, err := c.of.load()
	return c, err
}

// Config is that of the files as they were read last. It is not to be changed.
func (c *Certificates) Config() *tls.Config { return c.of.current.Load() }

// Expires is when the certificate does.
func (c *Certificates) Expires() time.Time { return time.Unix(c.of.expires.Load(), 0) }

// Keep reads the files again as they change, until ctx ends. With an error the
// former ones serve on; each reason is logged once.
func (c *Certificates) Keep(ctx context.Context, what string, log *slog.Logger) {
	tick := time.NewTicker(certificatesEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		changed, err := c.of.load()
		switch {
		case changed:
			log.Info("certificates were read again", "listener", what)
			said = ""
		case err != nil && err.Error() != said:
			log.Error("certificates cannot be read again, the former ones serve on", "listener", what, "err", err)
			said = err.Error()
		}
	}
}
