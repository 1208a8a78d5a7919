package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// transact is a producer that commits one transaction after the other, each of the plan's number of
// records.
func (l *loader) transact(ctx context.Context, number int, warm func()) error {
	p := &l.plan
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.ClientID(p.ClientID), kgo.TransactionalID(fmt.Sprint(p.Prefix, number)),
		kgo.ProducerLinger(0), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.TransactionTimeout(time.Minute), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return err
	}
	defer cl.Close()
	value := make([]byte, p.RecordBytes)
	for n := number; ; n++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		began := time.Now()
		if err := cl.BeginTransaction(); err != nil {
			return fmt.Errorf("begin a transaction: %w", err)
		}
		var failed kgo.FirstErrPromise
		for i := range p.Records {
			cl.Produce(ctx, &kgo.Record{Topic: p.Topics[(n+i)%len(p.Topics)], Value: value}, failed.Promise())
		}
		if err := errors.Join(cl.Flush(ctx), failed.Err()); err != nil {
			return fmt.Errorf("produce in a transaction: %w", err)
		}
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return fmt.Errorf("commit a transaction: %w", err)
		}
		l.answered(1, 0, time.Since(began))
		warm()
	}
}
