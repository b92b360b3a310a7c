#!/usr/bin/perl
# Messages of t/data/corpus pass through TLS octet for octet: TLS on either side of Postern and on both, by DATA
# and by BDAT, in large pieces and small ones.
#
# Two of them stand in a row: what the first one sends through TLS is what the second one hears.
use strict;
use warnings;
use Test::More;
use Certs;
use SmtpSink;
use TestProxy;
use TestUtil;

my $certs = Certs->new;
my ($cert, $key) = $certs->make('server');
my $trust = 'tls verify; tls_ca ' . $certs->ca;

my %content = map {
	my ($name) = m{corpus/(.*)};
	($name => read_file($_) =~ s/\r?\n/\r\n/gr);
} grep { !m{/LICENCE$} } data_files('corpus/*/*');
my @names = sort keys %content;
cmp_ok scalar @names, '>=', 60, 'the corpus has at least 60 messages';

# ---- the ways ------------------------------------------------------------------------------

my %sink = (clear => SmtpSink->start, tls => SmtpSink->start(tls => { cert => $cert, key => $key }),
	old => SmtpSink->start(tls => { cert => $cert, key => $key, versions => [ '1.2', '1.2' ] }),
	small => SmtpSink->start(tls => { cert => $cert, key => $key }, max_read => 1000, slow => 0.001));

# name, its sink, options of the second one's listener, of the back-ends (chunking, and so on)
my @ways = (
	[ 'tls_tls', 'tls' ], [ 'tls_clear', 'clear' ], [ 'tls_old', 'old' ],
	[ 'tls_tls_late', 'tls', 'envelope late' ],
	[ 'tls_tls_chunked', 'tls', '', 'chunking yes' ], [ 'tls_clear_chunked', 'clear', '', 'chunking yes' ],
	[ 'implicit', 'tls', 'implicit_tls yes', '', 'implicit_tls yes' ],
);
my $inner_conf = "spool { directory %d/spool; inline 2K }\n";
for my $way (@ways) {
	my ($name, $to, $listener, $backend) = @$way;
	my $tls = $to eq 'clear' ? 'tls none' : $trust;
	$inner_conf .= <<"CONF";
listener $name {
	listen 127.0.0.1:0; backend $name; received no; @{[ $listener // '' ]}
	tls { certificate $cert; key $key }
}
backend $name { hosts @{[ $sink{$to}->addr ]}; $tls; @{[ $backend // '' ]} }
CONF
}
my $inner = TestProxy->start($inner_conf);
my $outer_conf = "spool { directory %d/spool; inline 2K }\n";
for my $way (@ways) {
	my ($name, $to, $listener, $backend, $outer) = @$way;
	$outer_conf .= <<"CONF";
listener $name { listen 127.0.0.1:0; backend $name; received no }
backend $name { hosts @{[ $inner->addr($name) ]}; $trust; @{[ $backend // '' ]}; @{[ $outer // '' ]} }
CONF
}
# These have no second one.
for my $name ('clear_tls', 'clear_small') {
	my ($to) = $name =~ /_(.*)/;
	$outer_conf .= <<"CONF";
listener $name { listen 127.0.0.1:0; backend $name; received no }
backend $name { hosts @{[ $sink{$to}->addr ]}; $trust }
CONF
	push @ways, [ $name, $to ];
}
my $outer = TestProxy->start($outer_conf);

# ---- what passes ---------------------------------------------------------------------------

# What must arrive: the last line ends in CRLF.
sub complete
{
	my ($content) = @_;

	return $content eq '' || $content =~ /\r\n\z/ ? $content : "$content\r\n";
}

sub difference
{
	my ($got, $want) = @_;

	return 'nothing arrived' unless defined $got;
	return '' if $got eq $want;
	my $n = 0;
	$n++ while $n < length $want && substr($got, $n, 1) eq substr $want, $n, 1;
	return sprintf '%d octets instead of %d, the first other one is %d', length $got, length $want, $n;
}

my @verbs = (
	[ DATA => sub {
		my ($c, $content) = @_;
		return $c->send_message(content => $content, pipeline => 1);
	} ],
	[ BDAT => sub {
		my ($c, $content) = @_;
		$_->code == 250 or die 'refused: ' . $_->raw for $c->mail('a@example.net'), $c->rcpt('b@example.org');
		return $c->bdat($content, map { 1 + int rand 3000 } 1 .. rand 4);
	} ],
);

for my $way (@ways) {
	my ($name, $to, undef, $chunked) = @$way;
	for my $verb (@verbs) {
		my ($word, $how) = @$verb;
		my $c = $outer->client($name);
		my @trouble;
		$c->ehlo;
		for my $message (@names) {
			my $reply = eval { $how->($c, $content{$message}) };
			my @got = $sink{$to}->new_txns;
			my $wrong = $@ || ($reply == 250 ? '' : 'the reply is ' . $reply->raw)
			    || (@got == 1 && $got[0]{ended} eq 'accepted' ? '' : scalar(@got) . ' messages arrived')
			    || difference($got[0]{content}, $chunked && $word eq 'BDAT' ? $content{$message} : complete($content{$message}));
			push @trouble, "$message: $wrong" if $wrong ne '';
			last if @trouble > 5;
		}
		$c->quit;
		is join("\n", @trouble), '', "$name, by $word";
	}
}

# ---- small pieces and large messages -------------------------------------------------------

{
	my $c = $outer->client('tls_tls');
	my ($short) = sort { length $content{$a} <=> length $content{$b} } grep { length $content{$_} > 200 } @names;
	$c->ehlo;
	$c->send_split("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nDATA\r\n", 1);
	$c->expect($_) for 250, 250, 354;
	$c->send_split(SmtpClient::stuffed($content{$short}), 1);
	is $c->read_reply, 250, 'octet by octet: taken';
	my ($got) = $sink{tls}->new_txns;
	is difference($got->{content}, complete($content{$short})), '', 'and it is the same';
}

my $large = "Subject: large\r\n\r\n" . join '', map { sprintf "%07d %s\r\n", $_, 'x' x 70 } 1 .. 64 * 1024;

for my $case ([ 'tls_tls', 'tls' ], [ 'tls_tls_chunked', 'tls' ], [ 'implicit', 'tls' ], [ 'clear_small', 'small' ]) {
	my ($name, $to) = @$case;
	my $c = $outer->client($name, timeout => 60);
	is $c->send_message(content => $large), 250, "$name takes 5 MiB";
	my ($got) = $sink{$to}->new_txns;
	is difference($got->{content}, $large), '', 'and they are the same';
	$c->quit;
}

# ---- and it was TLS ------------------------------------------------------------------------

for my $to ('tls', 'old', 'small') {
	my $events = $sink{$to}->events;
	my %is_tls = map { $_ => 1 } $events =~ /^(\d+) tls TLSv1/mg;
	ok !(grep { !$is_tls{$_} } $events =~ /^(\d+) accepted/mg), "everything at the sink '$to' came through TLS";
}
is $outer->stop, 0, 'the first ends in good order';
is $inner->stop, 0, 'the second, too';
done_testing;
