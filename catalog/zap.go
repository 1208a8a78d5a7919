package catalog

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapToSlog hands etcd's errors to slog as warnings, since what fails for good
// comes back to us as an error of a call, and its warnings as debug; its info log
// is chatter. What ends it for good is an error, and is told by [end]. Once closing is set (nil: never) all else is debug: etcd calls its own
// end a failure.
func zapToSlog(l *slog.Logger, closing *atomic.Bool) *zap.Logger {
	return zap.New(&slogCore{logger: l.With("part", "etcd"), closing: closing})
}

// storageVersion is what etcd (etcdserver/version/monitor.go) logs as an error of a store too young to tell its version.
const storageVersion = "failed to update storage version"

type slogCore struct {
	logger  *slog.Logger
	fields  []zapcore.Field
	closing *atomic.Bool
}

func (c *slogCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	all := make([]zapcore.Field, 0, len(c.fields)+len(fields))
	return &slogCore{logger: c.logger, closing: c.closing, fields: append(append(all, c.fields...), fields...)}
}

func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	args := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		args = append(args, k, v)
	}
	if e.Level > zapcore.ErrorLevel {
		c.logger.Log(context.Background(), slog.LevelError, e.Message, args...)
		return nil
	}
	level := slog.LevelDebug
	// A fresh store cannot tell its version yet: harmless, and etcd tries again.
	if e.Level >= zapcore.ErrorLevel && e.Message != storageVersion && (c.closing == nil || !c.closing.Load()) {
		level = slog.LevelWarn
	}
	c.logger.Log(context.Background(), level, e.Message, args...)
	return nil
}

func (c *slogCore) Sync() error { return nil }
