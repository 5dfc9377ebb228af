DROP TABLE perdure.followed_advice;
