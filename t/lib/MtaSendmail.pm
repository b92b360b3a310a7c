# MtaSendmail - a real sendmail with everything of its own below a temporary folder.
#
#   my $mta = MtaSendmail->new(recipe => 'front');             # or 'back', 'smarthost', 'rx', 'tx'
#   $mta->start(filter => $proxy->addr);
#   SmtpClient->connect($mta->addr)->send_message(...);
#
# The recipes are the files of contrib/sendmail, built with the packaged m4; only ports and folders are
# put in their place. The sendmail is not the installed one (its package excludes Postfix), but one
# that ./bootstrap unpacked. It needs root; a mount namespace takes the resolver away from it, because
# sendmail asks DNS for its own name at the start.
# Other arguments of new(): domains (for mailertable), local (domains that it delivers itself), lines (more of m4,
# before MAILER), syslog (it has a /dev/log of its own, and what it says there is in syslog()). What it delivers
# itself is in delivered().
package MtaSendmail;
use strict;
use warnings;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(SOCK_DGRAM);
use TestUtil;

# Where the unpacked packages are.
sub home
{
	my ($found) = grep { -e "$_/complete" } grep { defined } $ENV{POSTERN_SENDMAIL},
	    builddir() . '/sendmail', srcdir() . '/build/sendmail';

	return $found;
}

sub unavailable
{
	return 'needs root' unless is_root();
	return 'needs the unpacked sendmail packages (./bootstrap)' unless home();
	return 'needs m4' unless -x '/usr/bin/m4';
	return;
}

sub new
{
	my ($class, %opt) = @_;
	my $self = bless { recipe => 'front', domains => ['example.org', '.example.org'], %opt,
		dir => temp_dir(), owner => $$, addr => '127.0.0.1:' . free_port() }, $class;

	# sendmail trusts no folder that others may write to (of /tmp the configuration must say so).
	chmod 0755, "$self->{dir}";
	mkdir "$self->{dir}/$_", 0755 or die "mkdir $_: $!" for qw(etc queue state inbox);
	chmod 01777, "$self->{dir}/inbox";
	return $self;
}

sub addr { return $_[0]{addr} }
sub dir { return "$_[0]{dir}" }
sub log { return read_file("$_[0]{dir}/log") // '' }
sub syslog { return read_file("$_[0]{dir}/syslog") // '' }

sub start
{
	my ($self, %opt) = @_;
	my $dir = $self->{dir};

	$self->{filter} = $opt{filter} if $opt{filter};
	$self->write_files;
	$self->start_syslog if $self->{syslog};
	$self->{pid} = start_process("$dir/log", $self->argv('-bD', '-q1s'));
	wait_port($self->{addr}, 30) or die "sendmail does not listen at $self->{addr}:\n" . $self->log;
	return $self;
}

# sendmail with our configuration, where no resolver can be asked.
sub argv
{
	my ($self, @args) = @_;
	my $dir = $self->{dir};
	my @sendmail = (home() . '/usr/libexec/sendmail/sendmail', '-C', "$dir/etc/sendmail.cf", @args);

	return @sendmail if system('unshare -m true >/dev/null 2>&1') != 0;
	my $dev = $self->{syslog_pid} ? "mount -t tmpfs none $dir/dev && for f in null zero random urandom; do "
	    . "touch $dir/dev/\$f && mount --bind /dev/\$f $dir/dev/\$f || exit; done; "
	    . "ln -s $dir/dev.log $dir/dev/log && mount --move $dir/dev /dev || exit; " : '';
	return ('unshare', '-m', 'sh', '-c', "${dev}for f in resolv.conf nsswitch.conf hosts; do "
	    . "mount --bind $dir/etc/\$f /etc/\$f || exit; done; exec \"\$@\"", 'sh', @sendmail);
}

# A syslog daemon of its own: one line for each datagram.
sub start_syslog
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my $sock = IO::Socket::UNIX->new(Local => "$dir/dev.log", Type => SOCK_DGRAM) or die "$dir/dev.log: $!";

	chmod 0666, "$dir/dev.log";
	mkdir "$dir/dev";
	$self->{syslog_pid} = fork // die "fork: $!";
	return if $self->{syslog_pid};
	open my $out, '>>', "$dir/syslog" or POSIX::_exit(1);
	$out->autoflush(1);
	my $line;
	print $out $line =~ s/[\n\0]*\z/\n/r while defined $sock->recv($line, 65536);
	POSIX::_exit(0);
}

sub write_files
{
	my ($self) = @_;
	my $etc = "$self->{dir}/etc";

	write_file("$etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", 0644);
	write_file("$etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\naliases: files\n", 0644);
	write_file("$etc/hosts", "127.0.0.1 front.example localhost\n", 0644);
	write_file("$etc/service.switch", "hosts files\naliases files\n", 0644);
	write_file("$etc/aliases", '', 0644);
	write_file("$etc/local-host-names", join('', map { "$_\n" } @{ $self->{local} // [] }), 0644);
	write_file("$etc/trusted-users", '', 0644);
	write_file("$etc/access", '', 0644);
	write_file("$etc/relay-domains", join('', map { "$_\n" } @{ $self->{domains} }), 0644);
	# Instead of a program that knows mailboxes; sendmail's arguments are sender, user, host.
	write_file("$self->{dir}/deliver", "#!/bin/sh\ncat >>$self->{dir}/inbox/\$2\n", 0755);
	$self->write_mailertable;
	$self->write_cf;
	system(join(' ', map { "'$_'" } $self->argv('-bi')) . " >>$self->{dir}/log 2>&1");
	return;
}

# The mailertable of contrib; with other domains when the test wants them.
sub write_mailertable
{
	my ($self) = @_;
	my $text = read_file(srcdir() . '/contrib/sendmail/mailertable');
	my $etc = "$self->{dir}/etc";

	$text =~ s/^[^#].*\n//mg;
	$text .= "$_\tfilter:[127.0.0.1]\n" for @{ $self->{domains} };
	write_file("$etc/mailertable", $text, 0644);
	$self->makemap($_) for qw(mailertable access);
	return;
}

sub makemap
{
	my ($self, $map) = @_;
	my $etc = "$self->{dir}/etc";
	my $makemap = home() . '/usr/libexec/sendmail/makemap';

	system("'$makemap' -C /dev/null hash $etc/$map <$etc/$map >>$self->{dir}/log 2>&1") == 0
	    or die "makemap $map failed:\n" . $self->log;
	return;
}

sub write_cf
{
	my ($self) = @_;
	my ($dir, $home) = ($self->{dir}, home());
	my $mc = read_file(srcdir() . "/contrib/sendmail/$self->{recipe}.mc");

	my $lines = $self->{lines} // '';
	my $extra = <<"EXTRA" . $lines;
define(`confSERVICE_SWITCH_FILE', `$dir/etc/service.switch')dnl
define(`confHOSTS_FILE', `$dir/etc/hosts')dnl
ifdef(`confDOMAIN_NAME', `', `define(`confDOMAIN_NAME', `front.example')')dnl
define(`confLOG_LEVEL', `@{[ $self->{syslog} ? 9 : 0 ]}')dnl
define(`confQUEUE_LA', `10000')dnl
define(`confREFUSE_LA', `10000')dnl
define(`confDELAY_LA', `10000')dnl
define(`confMIN_QUEUE_AGE', `0')dnl
define(`confDONT_BLAME_SENDMAIL', `MapInUnsafeDirPath,ClassFileInUnsafeDirPath')dnl
FEATURE(`accept_unresolvable_domains')dnl
define(`LOCAL_MAILER_PATH', `$dir/deliver')dnl
EXTRA
	$mc =~ s/^(?=MAILER\()/$extra/m;
	write_file("$dir/etc/sendmail.mc", $mc);
	# The packaged m4 files name their folder; ours lies elsewhere.
	system("cp -r '$home/usr/share/sendmail/cf' $dir/cf && grep -rl /usr/share/sendmail/cf $dir/cf | "
	    . "xargs -r sed -i 's#/usr/share/sendmail/cf#$dir/cf#g'") == 0 or die "cf: $?";
	system("cd $dir/cf && m4 -D_CF_DIR_=$dir/cf/ m4/cf.m4 $dir/etc/sendmail.mc "
	    . ">$dir/etc/sendmail.cf 2>>$dir/log") == 0 or die "m4 failed:\n" . $self->log;
	write_file("$dir/etc/sendmail.cf", $self->in_place(read_file("$dir/etc/sendmail.cf")), 0644);
	return;
}

# Our ports and folders instead of those of an installed sendmail.
sub in_place
{
	my ($self, $cf) = @_;
	my $dir = $self->{dir};
	my $port = $self->{addr} =~ s/.*://r;

	$cf =~ s/\bTCP \$h 10025/'TCP $h ' . ($self->{filter} =~ s{.*:}{}r)/ge if $self->{filter};
	# A recipe that says no address listens on all of them; a test may not.
	my $address = $cf =~ /^O DaemonPortOptions=.*\bAddr=/m ? '' : ', Addr=127.0.0.1';
	$cf =~ s/^(O DaemonPortOptions=.*)\bPort=\d+(.*)/$1Port=$port$address$2/m;
	$cf =~ s{/etc/mail/}{$dir/etc/}g;
	$cf =~ s{/var/spool/mqueue[-a-z]*}{$dir/queue}g;
	$cf =~ s{/(?:run|var/lib)/sendmail/}{$dir/state/}g;
	$cf =~ s/^O HostStatusDirectory=.*\n//m;	# it refuses a path through /tmp
	return $cf;
}

# Submission by the command line, as programs on the machine do it.
sub submit
{
	my ($self, $from, $to, $text) = @_;
	my $pid = open my $in, '|-', $self->argv('-f', $from, '-oi', '-bm', '--', $to) or die "submit: $!";

	print $in $text;
	close $in;
	return $? >> 8;
}

# What was delivered to a user of this machine.
sub delivered { my ($self, $user) = @_; return read_file("$self->{dir}/inbox/$user") // '' }

# Where mail would go, as address test mode says it: mailer and host.
sub mailer_for
{
	my ($self, $to) = @_;
	my @argv = map { "'$_'" } $self->argv('-bt');
	my $out = `echo '/parse $to' | @argv 2>&1`;

	return $out =~ /^(mailer \S+, host \S+),/m ? $1 : $out;
}

sub queue
{
	my ($self) = @_;

	open my $out, '-|', $self->argv('-bp') or die "mailq: $!";
	local $/;
	return <$out>;
}

sub is_empty { return $_[0]->queue =~ /is empty/ }

sub stop
{
	my ($self) = @_;
	my $syslog = delete $self->{syslog_pid};
	my $pid = delete $self->{pid};

	stop_process($pid, 5) if $pid;
	stop_process($syslog, 5) if $syslog;
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local $?;
	$self->stop if ($self->{owner} // 0) == $$;
	return;
}

1;
