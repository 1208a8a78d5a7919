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

// Refused tells why the files as they are now are not served with, "" if they are: the former ones are.
func (c *Certificates) Refused() string { return c.of.why() }

// Keep reads the files again as they change, until ctx ends. With an error the
// former ones serve on; each reason is logged once.
func (c *Certificates) Keep(ctx context.Context, what string, log *slog.Logger) {
	tick := time.NewTicker(certificatesEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		c.of.again(what, log)
	}
}

// again reads the files if they changed, and remembers why they were refused until they are not.
func (c *certificates) again(what string, log *slog.Logger) (changed bool) {
	changed, err := c.load()
	if changed {
		log.Info("certificates were read again", "listener", what)
	}
	why := ""
	if err != nil {
		why = err.Error()
		if why != c.why() {
			// Once for each reason: files are replaced one after the other.
			log.Error("certificates cannot be read again, the former ones serve on", "listener", what, "err", err)
		}
	} else if r := c.revoked.Load(); r != nil {
		if why = r.expired(time.Now()); why != "" && why != c.why() {
			log.Error("clients are not let in by certificates", "listener", what, "err", why)
		}
	}
	if why == "" {
		c.refused.Store(nil)
	} else {
		c.refused.Store(&why)
	}
	return changed
}

func (c *certificates) why() string {
	if w := c.refused.Load(); w != nil {
		return *w
	}
	return ""
}
